! The LSTM from Fortran: interfaces of the functions of lstm_ext.cython_lstm, for c_f_procpointer.
!
! Their addresses come from Python, lstm_ext.cython_lstm.address("lstm_step_d"), and so does the network's.
! An array that is (N, T, I) there is (I, T, N) here: the same memory, the axes named from the other end.
! What each pointer is stands in lstm_ext/cython_lstm.pxd.
module lstm_interfaces
    use, intrinsic :: iso_c_binding
    implicit none

    abstract interface
        integer(c_int) function lstm_step_d(network, batch, x, h_prev, c_prev, h, c, workspace) bind(c)
            import :: c_int, c_ptr, c_size_t, c_double
            type(c_ptr), value :: network
            integer(c_size_t), value :: batch       ! Py_ssize_t has its size; never negative here
            real(c_double), intent(in) :: x(*)       ! (I, batch)
            type(c_ptr), value :: h_prev, c_prev     ! (P, batch, L), (H, batch, L); h may be h_prev
            type(c_ptr), value :: h, c
            type(c_ptr), value :: workspace
        end function

        integer(c_int) function lstm_forward_d( &
                network, batch, time, x, lengths, h_0, c_0, y, h_n, c_n, tape, workspace) bind(c)
            import :: c_int, c_ptr, c_size_t, c_double
            type(c_ptr), value :: network
            integer(c_size_t), value :: batch, time
            real(c_double), intent(in) :: x(*)       ! (I, time, batch)
            type(c_ptr), value :: lengths, h_0, c_0  ! or c_null_ptr
            real(c_double), intent(inout) :: y(*)    ! (D*P, time, batch)
            type(c_ptr), value :: h_n, c_n           ! (P, batch, L*D), (H, batch, L*D)
            type(c_ptr), value :: tape, workspace    ! tape: or c_null_ptr
        end function
    end interface
end module
