! The physics of many columns of air: a time loop in Fortran, whose heating rates an LSTM gives.
! With a proj_size the LSTM has that many outputs, else as many as hidden units; options change nothing here.
subroutine run_columns(step_address, network, columns, levels, outputs, hidden, steps, dt, temperature, &
                       readout, h, c, workspace, status) bind(c)
    use lstm_interfaces
    type(c_funptr), value :: step_address            ! of lstm_step_d
    type(c_ptr), value :: network
    integer(c_size_t), value :: columns, levels, outputs, hidden, steps
    real(c_double), value :: dt
    real(c_double), intent(inout) :: temperature(levels, columns)
    real(c_double), intent(in) :: readout(outputs, levels)
    real(c_double), intent(inout), target :: h(outputs, columns), c(hidden, columns)
    type(c_ptr), value :: workspace
    integer(c_int), intent(out) :: status
    procedure(lstm_step_d), pointer :: step
    integer(c_size_t) :: n, column, level
    call c_f_procpointer(step_address, step)
    status = 0
    do n = 1, steps
        status = step(network, columns, temperature, c_loc(h), c_loc(c), c_loc(h), c_loc(c), workspace)
        if (status /= 0) return
        do column = 1, columns
            do level = 1, levels
                temperature(level, column) = temperature(level, column) + dt * ( &
                    dot_product(readout(:, level), h(:, column)) - 0.1_c_double * temperature(level, column))
            end do
        end do
    end do
end subroutine
